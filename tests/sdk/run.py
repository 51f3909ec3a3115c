"""The vendor's clients and OpenStack's, unmodified, against the real vitald.

    run.py BINARY [MODULE...]      all test modules, or those named

Ends with a line like libtest's, which tests/run counts. With all modules it
also looks that every call of both families was made, and enough cases refused.
"""

import os
import sys
import unittest

from daemon import Daemon

MODULES = [
    "test_apig",
    "test_roma",
    "test_errors",
    "test_keystone",
    "test_live",
    "test_openstack",
    "test_javascript",
]
CASES_OF_ERRORS = 60
BOTH = """create_vpc_channel_v2 list_vpc_channels_v2 show_details_of_vpc_channel_v2 update_vpc_channel_v2
    delete_vpc_channel_v2 adding_backend_instances_v2 list_backend_instances_v2 update_backend_instances_v2
    delete_backend_instance_v2 batch_enable_members batch_disable_members update_health_check
    create_member_group list_member_groups show_details_of_member_group update_member_group
    delete_member_group""".split()
ROMA_ONLY = """create_project_vpc_channel list_project_vpc_channels_v2 update_project_vpc_channel
    create_project_vpc_channel_syncs""".split()


def judge_coverage():
    """What the tests should have done and did not."""
    import clients

    wanted = {("ApigClient", call) for call in BOTH}
    wanted |= {("RomaClient", call) for call in BOTH + ROMA_ONLY}
    missing = sorted(wanted - clients.CALLS)
    print(f"{len(wanted)} calls wanted, {len(missing)} never made; {len(clients.REFUSED)} cases refused")
    problems = [f"never called: {client}.{call}" for client, call in missing]
    if len(clients.REFUSED) < CASES_OF_ERRORS:
        problems.append(f"fewer than {CASES_OF_ERRORS} cases were refused")
    return problems


def main():
    binary, modules = sys.argv[1], sys.argv[2:] or MODULES
    with Daemon(binary) as daemon:
        # The modules look at the environment when they are imported.
        os.environ.update(daemon.environment())
        suite = unittest.defaultTestLoader.loadTestsFromNames(modules)
        result = unittest.TextTestRunner(stream=sys.stdout, verbosity=1).run(suite)
        problems = judge_coverage() if modules == MODULES else []
        log = open(daemon.log).read()
        if '"ERROR"' in log:
            problems.append("vitald logged an error:\n" + log)
    for test, why in result.skipped:
        print(f"{test}: {why}")
        with open(os.environ.get("VITALD_SKIPPED_TESTS", os.devnull), "a") as file:
            file.write(f"{test.id()}: {why}\n")
    for problem in problems:
        print(problem)
    failed = len({test.id() for test, _ in result.failures + result.errors}) + len(problems)
    if os.environ.get("CI") == "true":
        failed += len(result.skipped)
    word = "FAILED" if failed else "ok"
    print(f"test result: {word}. {max(result.testsRun - failed, 0)} passed; {failed} failed; 0 ignored")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
