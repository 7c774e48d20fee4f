/* Clocks that jump as over a sleep of the machine: those that go on meanwhile are as many seconds ahead as the file says
 * that $CLOUDREVE_TEST_SLEPT_FILE names, a 64-bit number. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *slept_seconds;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("CLOUDREVE_TEST_SLEPT_FILE");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);

	if (mapped != MAP_FAILED)
		slept_seconds = mapped;
	if (file >= 0)
		close(file);
	real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int done;

	if (!real)
		begin();
	done = real(clock, now);
	if (done == 0 && slept_seconds && (clock == CLOCK_BOOTTIME || clock == CLOCK_REALTIME))
		now->tv_sec += *slept_seconds;
	return done;
}
