/* sockopt: from Linux 6.16 on, sockets that pass no credentials refuse to be
 * asked whether they do (EOPNOTSUPP), and CRIU 4.1 gives a dump up over that.
 * Such a socket has it off: that is what older kernels say. */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "godwit-criu.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict len)
{
	static typeof(&getsockopt) real;
	if (!real)
		real = (typeof(&getsockopt))dlsym(RTLD_NEXT, "getsockopt");
	int rc = real(fd, level, name, value, len);
	if (rc == 0 || errno != EOPNOTSUPP || level != SOL_SOCKET || !gwc_mode_is("dump"))
		return rc;
	if ((name != SO_PASSCRED && name != SO_PASSSEC && name != SO_PASSPIDFD) || *len < sizeof(int))
		return rc;
	memset(value, 0, sizeof(int));
	*len = sizeof(int);
	return 0;
}
