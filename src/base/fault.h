#pragma once
#include "base/gw_err.h"

/* fault: break here, on purpose, once, when a test asks for it.
 *
 * A file named by gw_fault_init (godwitd: STATE/fault) holds "POINT ACTION".
 * When the point is reached the file is removed (but for failing), and then:
 *   kill   this process ends by SIGKILL, as if it had crashed
 *   fail, failing   the step fails: -EIO, with words
 *   hang   it sleeps for 3 s and goes on: a slow host
 * Root alone can write there. Points are listed in docs/testing.md. Without
 * the file a point costs one failed open(2). Any thread. */
void gw_fault_init(const char *path); /* before the first thread; path is copied */
int gw_fault(const char *point, struct gw_err *e);
