"""Memory that is kept: in the commands, never by an import, and given back."""

import os
import subprocess
import sys

import pytest
from small import ROOT

from mhnet.core import allocator

GLIBC = pytest.mark.skipif(allocator._glibc() is None, reason="needs glibc")

FAULTS = """
import resource, torch
def faults():
    for _ in range(10):  # the first ones cost in any case
        torch.empty(1 << 24).fill_(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.empty(1 << 24).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""
RESIDENT = """
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
"""


def printed(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {allocator.VARIABLE: "1"} | environment,
        check=True,
    )
    return done.stdout.strip()


@GLIBC
def test_an_import_leaves_the_allocator_alone():
    code = "import mhnet.cli.main, mhnet.cli.rooms, mhnet.models; from mhnet.core import allocator; "
    code += "print(allocator.kept(), faults())"
    kept, faults = printed(FAULTS + code).split()
    assert kept == "False"
    assert int(faults) > 1000  # 256 MB afresh


@GLIBC
def test_kept_pages_cost_no_faults():
    code = "from mhnet.core import allocator; print(allocator.keep_pages(), allocator.kept(), faults())"
    on, kept, faults = printed(FAULTS + code).split()
    assert (on, kept) == ("True", "True")
    assert int(faults) < 100


@GLIBC
def test_large_blocks_can_come_and_go_while_others_stay():
    code = """
from mhnet.core import allocator
allocator.keep_pages()
def large():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.empty(allocator.LARGE // 2).fill_(1)  # twice that many bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def mapped():
    large()
    return large()
print(allocator.keep_large(False), mapped(), allocator.keep_large(True), mapped(), mapped())
"""
    released, many, kept, _, few = printed(FAULTS + code).split()
    assert (released, kept) == ("True", "True")
    assert int(many) > 1000
    assert int(few) < 100


@GLIBC
def test_the_environment_turns_it_off():
    code = "from mhnet.core import allocator; print(allocator.keep_pages(), allocator.kept())"
    assert printed(code, MHNET_KEEP_PAGES="0") == "False False"


@GLIBC
def test_the_command_keeps_pages():
    code = """
from mhnet.cli.main import main
from mhnet.core import allocator
try:
    main(["info", "nothing"])
except SystemExit:
    pass
print(allocator.kept())
"""
    assert printed(code) == "True"


@GLIBC
def test_memory_is_given_back():
    code = """
import torch
from mhnet.core import allocator
allocator.keep_pages()
maps = [torch.ones(1 << 24) for _ in range(4)]
end = torch.ones(1)
del maps
before = resident()
print(allocator.give_back(), before - resident() > 200e6)
"""
    assert printed(RESIDENT + code) == "True True"


@pytest.mark.parametrize(("system", "library"), [("darwin", ""), ("win32", ""), ("linux", "musl"), ("linux", "")])
def test_other_systems_are_left_alone(monkeypatch, system, library):
    monkeypatch.setattr(allocator, "_kept", None)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: (library, ""))
    assert not allocator.keep_pages()
    assert not allocator.kept()
    assert not allocator.keep_large(False)
    assert not allocator.give_back()
