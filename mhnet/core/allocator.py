"""Memory that the program keeps: with glibc, large maps otherwise cost more in page faults than in arithmetic.

glibc gives every large block back to the system as soon as it is freed, and the next one comes as pages that the kernel
must fill with zeros first. `keep_pages` tells it to keep what is freed, and `give_back` returns it when a large image
is done. A form of a network with few large maps computes best after `keep_large(False)`: they come and go, and what
is smaller stays. All do nothing where the C library is another one: musl, macOS, Windows.

Commands call `keep_pages` when they start, a library never does when it is imported; `MHNET_KEEP_PAGES=0` in the
environment turns it off.
"""

import ctypes
import os
import platform
import sys

VARIABLE = "MHNET_KEEP_PAGES"
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4  # <malloc.h>
NEVER = 2**31 - 1
TOP_PAD = 64 << 20
LARGE = 20 << 20
"""Bytes from which a block is large, as a map of 16 channels at 1280×720 is in bfloat16; glibc takes at most 32 MB."""
MANY = 1 << 16  # blocks that it may map by themselves, its own default

_kept: ctypes.CDLL | None = None
"""The C library, where it was told to keep pages."""


def keep_pages() -> bool:
    """Tells glibc to keep freed memory for this process and those it forks; whether it does from now on."""
    global _kept
    library = _glibc()
    if library is None or os.environ.get(VARIABLE, "1") == "0":
        return False
    settings = {M_MMAP_THRESHOLD: LARGE, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER, M_TOP_PAD: TOP_PAD}
    _fill_small_bins(library)
    done = all([library.mallopt(name, value) == 1 for name, value in settings.items()])  # noqa: C419, each is to be set
    _kept = library if done else None
    return done


def keep_large(wanted: bool) -> bool:
    """Says whether, where pages are kept, blocks of `LARGE` bytes and more are kept too, as they are at first; whether
    that was taken."""
    return _kept is not None and _kept.mallopt(M_MMAP_MAX, 0 if wanted else MANY) == 1


def kept() -> bool:
    """Whether `keep_pages` is in effect."""
    return _kept is not None


def give_back() -> bool:
    """Returns freed memory to the system, where it was kept; whether some was returned."""
    return _kept is not None and _kept.malloc_trim(0) == 1


def _fill_small_bins(library: ctypes.CDLL) -> None:
    """Makes large blocks fit where one of their size was freed.

    PyTorch asks for aligned blocks. What glibc cuts off before and behind them goes to its bins for small blocks while
    these have room, and until it is used nothing there joins the large block again: the next large one comes from fresh
    pages, several times over. Full bins leave the cuttings with their neighbours.
    """
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.restype, library.free.argtypes = None, [ctypes.c_void_p]
    blocks = [library.malloc(size) for size in range(24, 184, 16) for _ in range(16)]
    for block in blocks:
        library.free(block)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
