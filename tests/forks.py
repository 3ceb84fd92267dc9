"""Starts Python programs without waiting for PyTorch: a process that has imported it is forked for each of them.

`python forks.py SOCKET` waits for requests; `python forks.py SOCKET WORDS …` has the words run, as behind `python`, in
the current folder, with this environment, input and output, and ends with their exit status.
"""

import json
import os
import runpy
import socket
import sys
from pathlib import Path


def ask(path: str, words: list[str]) -> int:
    """Has the words run by the process that waits at the socket; returns their exit status."""
    request = {"words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        socket.send_fds(line, [json.dumps(request).encode()], [0, 1, 2])
        return int(line.recv(16) or b"70")


def wait(path: str) -> None:
    """Imports what takes long, then answers requests until it is ended."""
    import mhnet.evaluation.scoring
    import mhnet.restore.folders
    import mhnet.restore.restorer
    import mhnet.train.trainer  # noqa: F401

    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path)
        door.listen()
        while True:
            line = door.accept()[0]
            if os.fork() == 0:
                door.close()
                answer(line)
            line.close()


def answer(line: socket.socket) -> None:
    """Runs what is asked for, in this process, and ends it."""
    data, descriptors, *_ = socket.recv_fds(line, 1 << 20, 3)
    request, status = json.loads(data), 1
    for own, given in enumerate(descriptors):
        os.dup2(given, own)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    try:
        run(request["words"])
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
        if isinstance(left.code, str):
            print(left.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.stdout.flush()
    sys.stderr.flush()
    line.send(str(status).encode())
    os._exit(0)


def run(words: list[str]) -> None:
    """As `python WORDS` does: a module behind -m, code behind -c, or a script."""
    if words[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *words[2:]], ""
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    elif words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], str(Path.cwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = words, str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        wait(sys.argv[1])
    sys.exit(ask(sys.argv[1], sys.argv[2:]))
