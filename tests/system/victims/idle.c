/* Nothing at all: the smallest container that can be asked. */
#include "victim.h"
static const char *check(void)
{
	return NULL;
}
int main(void)
{
	victim_serve(check, NULL);
}
