"""The lab: tiny language models, trained for real on a CPU (see `ded/lab/README.md`)."""
