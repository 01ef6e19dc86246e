/* An io_uring: CRIU can't move it, so it has to be found before the freeze. */
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "victim.h"

static int ring;

static const char *check(void)
{
	return syscall(SYS_io_uring_enter, ring, 0, 0, 0, NULL, 0) == 0 ? NULL : "the ring is gone";
}

int main(void)
{
	struct io_uring_params p = {0};
	ring = (int)syscall(SYS_io_uring_setup, 8, &p);
	VICTIM_MUST(ring >= 0);
	victim_serve(check, NULL);
}
