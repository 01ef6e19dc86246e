#include "test.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "godwit-criu.h"

enum { ANON = MAP_PRIVATE | MAP_ANONYMOUS };

static size_t too_much(void)
{
	struct sysinfo s;
	assert_int_equal(sysinfo(&s), 0);
	return (size_t)(s.totalram + s.totalswap) * s.mem_unit + ((size_t)64 << 30);
}

static void more_than_there_is_can_be_restored(void **state)
{
	(void)state;
	setenv("GODWIT_CRIU_MODE", "restore", 1);
	size_t len = too_much();
	uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE, ANON, -1, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	p[len / 2] = 7;
	assert_int_equal(p[len / 2], 7);
	assert_int_equal(mprotect(p, len, PROT_NONE), 0);
	assert_int_equal(munmap(p, len), 0);
}

static void elsewhere_mmap_is_the_kernels(void **state)
{
	(void)state;
	unsetenv("GODWIT_CRIU_MODE");
	/* Not where the machine promises anything (vm.overcommit_memory=1). */
	void *want = mmap(NULL, too_much(), PROT_READ | PROT_WRITE, ANON, -1, 0);
	assert_true(want == MAP_FAILED ? errno == ENOMEM : munmap(want, too_much()) == 0);
	setenv("GODWIT_CRIU_MODE", "restore", 1);
	errno = 0;
	assert_ptr_equal(mmap(NULL, 0, PROT_READ | PROT_WRITE, ANON, -1, 0), MAP_FAILED);
	assert_int_equal(errno, EINVAL);
	void *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, ANON, -1, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(munmap(p, 8192), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(more_than_there_is_can_be_restored),
	                                   cmocka_unit_test(elsewhere_mmap_is_the_kernels)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
