#include "mem/pages.h"

int main(int argc, char **argv)
{
	return gw_pages_main(argc, argv);
}
