/* Pipes with bytes in them, a pipe that is full, a FIFO, and a child that
 * echoes through two pipes all the time. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "victim.h"

enum { HALF = 3000, BIG = 1 << 20 };
static int half[2], full[2], fifo[2], to_child[2], from_child[2];
static size_t full_bytes;
static uint64_t sent, got;
static const char *trouble;

[[noreturn]]
static void echo(void)
{
	uint64_t v;
	(void)close(to_child[1]);
	(void)close(from_child[0]);
	while (read(to_child[0], &v, sizeof v) == sizeof v)
		if (write(from_child[1], &v, sizeof v) != sizeof v)
			break;
	_exit(0);
}

static void tick(void)
{
	uint64_t v;
	struct pollfd p = {.fd = from_child[0], .events = POLLIN};
	for (int i = 0; i < 16; i++) {
		sent++;
		if (write(to_child[1], &sent, sizeof sent) != sizeof sent)
			trouble = "the pipe to the child is broken";
	}
	/* Always some left under way. */
	while (sent - got > 64 && poll(&p, 1, 1000) == 1) {
		if (read(from_child[0], &v, sizeof v) != sizeof v || v != ++got) {
			trouble = "the child's echo is out of order";
			return;
		}
	}
}

static const char *check(void)
{
	static uint8_t buf[BIG];
	uint64_t before = got;
	for (int i = 0; i < 8; i++)
		tick();
	if (trouble)
		return trouble;
	if (got == before)
		return "the child does not echo";
	if (read(half[0], buf, sizeof buf) != HALF || !victim_filled(buf, HALF, 1))
		return "a half-full pipe lost bytes";
	if (write(half[1], buf, HALF) != HALF)
		return "a half-full pipe takes no more bytes";
	if (write(full[1], buf, 1) >= 0 || errno != EAGAIN)
		return "a full pipe is no longer full";
	size_t n = 0;
	ssize_t k;
	while (n < full_bytes && (k = read(full[0], buf + n, full_bytes - n)) > 0)
		n += (size_t)k;
	if (n != full_bytes || !victim_filled(buf, n, 2))
		return victim_bad("a full pipe held %zu bytes and gives %zu, or others", full_bytes, n);
	if (write(full[1], buf, full_bytes) != (ssize_t)full_bytes)
		return "a pipe lost its capacity";
	if (read(fifo[0], buf, sizeof buf) != 8 || memcmp(buf, "in FIFO!", 8) != 0 || write(fifo[1], buf, 8) != 8)
		return "a FIFO lost bytes";
	return NULL;
}

int main(void)
{
	static uint8_t buf[BIG];
	VICTIM_MUST(pipe2(half, O_NONBLOCK) == 0 && pipe2(full, O_NONBLOCK) == 0 && pipe(to_child) == 0 &&
	            pipe(from_child) == 0);
	victim_fill(buf, HALF, 1);
	VICTIM_MUST(write(half[1], buf, HALF) == HALF);
	VICTIM_MUST(fcntl(full[1], F_SETPIPE_SZ, 262144) > 0);
	victim_fill(buf, sizeof buf, 2);
	ssize_t n = write(full[1], buf, sizeof buf);
	VICTIM_MUST(n > 0);
	full_bytes = (size_t)n;
	VICTIM_MUST(mkfifo("/tmp/fifo", 0600) == 0);
	fifo[0] = open("/tmp/fifo", O_RDONLY | O_NONBLOCK);
	fifo[1] = open("/tmp/fifo", O_WRONLY | O_NONBLOCK);
	VICTIM_MUST(fifo[0] >= 0 && fifo[1] >= 0 && write(fifo[1], "in FIFO!", 8) == 8);
	pid_t p = fork();
	VICTIM_MUST(p >= 0);
	if (p == 0)
		echo();
	victim_serve(check, tick);
}
