/* What the Check programs share: a case with its time limit, a run, and both out of a list of tests. */
#ifndef NESTOR_TESTS_SUITE_H
#define NESTOR_TESTS_SUITE_H

#include <check.h>
#include <stdlib.h>

/* A new case of a suite. The time limit of its tests, in seconds, is what CK_DEFAULT_TIMEOUT says; without it, one that only a test
 * that hangs exceeds, on a busy machine and with sanitizers too (Check's own limit is 4). */
static inline TCase *suite_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);
    if (!getenv("CK_DEFAULT_TIMEOUT"))
        tcase_set_timeout(tcase, 300);
    suite_add_tcase(suite, tcase);
    return tcase;
}

/* Runs a suite; what main() returns. CK_FORK_GETENV leaves it to CK_FORK whether each test has a process of its own; a test that
 * shares its process with the others (CK_NOFORK) has no time limit. */
static inline int suite_run(Suite *suite, enum fork_status fork)
{
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, fork);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* A suite of one case out of a list of tests; `setup` and `teardown` are run around each, and may be NULL. */
static inline int suite_run_tests(const char *name, const TTest *const *tests, size_t count, void (*setup)(void), void (*teardown)(void),
                                  enum fork_status fork)
{
    Suite *suite = suite_create(name);
    TCase *tcase = suite_case(suite, name);
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (size_t n = 0; n < count; n++)
        tcase_add_test(tcase, tests[n]);
    return suite_run(suite, fork);
}

#endif
