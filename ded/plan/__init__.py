"""What a preset needs and what it will cost, told before anything is run."""

from ded.plan.cost import Work, estimate, size_of, workload
from ded.plan.machine import check
