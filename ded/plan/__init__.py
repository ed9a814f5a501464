"""What a preset needs and what it will cost, told before anything is run."""

from __future__ import annotations

from ded.plan.cost import estimate
from ded.plan.machine import check
from ded.plan.sizes import size_of
from ded.plan.workload import Work, workload
