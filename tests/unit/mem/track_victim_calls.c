#include "track_victim.h"
void victim_more(const char *what)
{
	(void)what;
}
