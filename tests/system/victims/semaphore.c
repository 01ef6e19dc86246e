/* An eventfd that is a semaphore: the kernel does not say so in every version. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "victim.h"

static int sem;

static const char *check(void)
{
	uint64_t n = 0;
	if (read(sem, &n, sizeof n) != sizeof n || n != 1)
		return victim_bad("the semaphore of 3 gives %llu at once", (unsigned long long)n);
	return write(sem, &n, sizeof n) == sizeof n ? NULL : "the semaphore takes nothing";
}

int main(void)
{
	sem = eventfd(3, EFD_NONBLOCK | EFD_SEMAPHORE | EFD_CLOEXEC);
	VICTIM_MUST(sem >= 0);
	victim_serve(check, NULL);
}
