"""The ReasoningBank: what happened to earlier trades in similar situations, and how far to trust each agent now."""

from core.memory.bank import BankConfig, Learned, ReasoningBank
from core.memory.rows import MemoryFileError
from core.memory.verdict import Trajectories, VerdictConfig, record_of_side, verdict

__all__ = [
    "BankConfig",
    "Learned",
    "MemoryFileError",
    "ReasoningBank",
    "Trajectories",
    "VerdictConfig",
    "record_of_side",
    "verdict",
]
