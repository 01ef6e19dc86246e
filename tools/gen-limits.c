/* gen-limits: docs/limits.md out of the table that `godwit check` uses. */
#include <stdio.h>
#include <string.h>

#include "move/check.h"

static const char head[] =
        "# What cannot move, and what to do about it\n"
        "\n"
        "Made from src/move/check_table.c by tools/gen-limits (`make limits`); a test compares them. `godwit check "
        "CONTAINER "
        "--to HOST` tells which of these hold for a container, with the process, file or feature that is meant, and "
        "freezes "
        "nothing. *Blocks*: the migration is refused. *Note*: it moves, but slower or with a difference.\n"
        "\n"
        "Beyond the table:\n"
        "\n"
        "- Files are not copied: a writable root file system or volume must be the same on both hosts.\n"
        "- Locked and huge pages, a memfd that a process has open, and a large shared object in so many processes that "
        "tracking it would need page tables of an eighth of its size "
        "are right, but go in the freeze: it grows with them. So does, once, all of an object that a process which "
        "maps it has gone from, or forked and reaped, since the last round; and all shared memory where soft-dirty "
        "is the backend.\n"
        "- System V segments that several containers of a pod have mapped go in the freeze.\n"
        "- Pages shared by fork are sent, stored and restored once per process.\n"
        "- A destination with strict reverse path filtering (net.ipv4.conf.all.rp_filter=1) can cost a connection with "
        "unsent data one second.\n"
        "- A flag set by madvise() on a whole mapping in the last tens of milliseconds before the freeze may be lost "
        "(docs/architecture.md).\n";

int main(void)
{
	const char *group = "";
	(void)fputs(head, stdout);
	for (const struct gw_reason_row *r = gw_reason_table; r->code; r++) {
		if (strcmp(group, r->group) != 0) {
			group = r->group;
			(void)printf("\n## %s\n\n| code | | what | way out |\n|---|---|---|---|\n", group);
		}
		(void)printf("| %s | %s | %s | %s |\n", r->code, r->is_warning ? "note" : "blocks", r->what,
		             r->way_out);
	}
	return ferror(stdout) || fflush(stdout) != 0;
}
