"""How often a process looks for garbage."""

import subprocess
import sys


def test_a_process_of_ours_leaves_alone_what_is_there_and_looks_seldom() -> None:
    code = (
        "import gc; from sealift.garbage import YOUNG, collect_less_often; collect_less_often(); "
        "assert gc.get_freeze_count() > 1000; assert gc.get_threshold()[0] == YOUNG; assert gc.isenabled()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
