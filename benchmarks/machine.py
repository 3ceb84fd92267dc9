"""What benchmarks measure on, and the memory they take."""

from pathlib import Path


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ")[1].strip() for line in lines if "model name" in line), "an unknown CPU")


def bf16_flags() -> str:
    """The processor's instructions for bfloat16, as /proc/cpuinfo names them."""
    info = Path("/proc/cpuinfo")
    words = set(info.read_text().split()) if info.exists() else set()
    return ", ".join(sorted(words & {"avx512_bf16", "amx_bf16"})) or "no bf16 instructions"


def resident(what: str, reset: bool = False) -> int:
    """Bytes of this process: VmRSS, what it holds, or VmHWM, the most it held since the last reset; 0 where the system
    does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith(what + ":"))
