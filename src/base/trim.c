#include "base/trim.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/scope.h"

void gw_trim(void)
{
	(void)malloc_trim(0);
	gw_auto(file) FILE *f = fopen("/proc/self/maps", "re");
	char line[4400];
	while (f && fgets(line, sizeof(line), f)) {
		uint64_t start, end;
		char perms[5], path[8];
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*x:%*x %*u %7s", &start, &end, perms, path) == 4 &&
		    !strcmp(perms, "r-xp") && path[0] == '/')
			(void)madvise((void *)(uintptr_t)start, end - start, MADV_DONTNEED);
	}
}
