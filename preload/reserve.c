/* SPDX-License-Identifier: MIT
 *
 * reserve: address space that a program has reserved comes back as that.
 *
 * To restore private memory CRIU maps it writable, whatever it was, and takes
 * the right away at the end. A program may reserve more than the machine has
 * (MariaDB: 8 TiB, PROT_NONE), which costs nothing as long as it cannot be
 * written; asked for it writable the kernel says no (ENOMEM). So such a mapping
 * is asked for once more without a promise of memory behind it. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "godwit-criu.h"

/* mmap64 by its name in the library: built with _FILE_OFFSET_BITS=64, as CRIU is. */
void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	long p = syscall(SYS_mmap, addr, len, prot, flags, fd, off);
	if (p != -1 || errno != ENOMEM || !gwc_mode_is("restore"))
		return (void *)p;
	if (!(flags & MAP_PRIVATE) || !(flags & MAP_ANONYMOUS) || !(prot & PROT_WRITE) || (flags & MAP_NORESERVE))
		return (void *)p; /* errno is still the kernel's */
	return (void *)syscall(SYS_mmap, addr, len, prot, flags | MAP_NORESERVE, fd, off);
}
