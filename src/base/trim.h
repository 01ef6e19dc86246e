#pragma once

/* trim: after the work give the memory back.
 *
 * Free heap goes to the kernel, and the code pages of this program and its
 * libraries leave its tables (they stay in the page cache and come back at
 * the next call, at a minor fault each): an idle godwitd is what it was
 * before its first migration. Only mappings that are read-only and executable
 * are touched: they have no private copy that could be lost. Any thread. */
void gw_trim(void);
