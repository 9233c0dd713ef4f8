/* Does one thing COUNT times, `load OPERATION COUNT [NODE]`, and prints the nanoseconds that one took: the
 * mean of all, and the median of 1000 slices, most of which nothing else interrupts. Under -icount a
 * nanosecond is one instruction of the whole guest. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int fds[2], node, listener;
static struct sockaddr_in address;
static char buffer[64];
/* An argument list of 120 bytes, as the data-path figures assume. */
static char *const arguments[] = {"/root/load", "exit", "0",
				  "--a-typical-argument=of-some-length",
				  "--another-one=/with/a/path/in/it", "--and-a-last-one=1234567", NULL};

static void fail(const char *what)
{
	perror(what);
	exit(3);
}

static void do_getppid(void)
{
	syscall(SYS_getppid);
}

static void do_read(void)
{
	if (read(node, buffer, 1) != 1)
		fail("read");
}

static void do_write(void)
{
	if (write(node, buffer, 1) != 1)
		fail("write");
}

static void do_ioctl(void)
{
	ioctl(node, 0xc020462a, buffer);
}

static void do_exec(void)
{
	pid_t child = vfork();

	if (child == 0) {
		execv("/root/load", arguments);
		_exit(127);
	}
	if (waitpid(child, NULL, 0) != child)
		fail("waitpid");
}

static void do_tcp(void)
{
	int client = socket(AF_INET, SOCK_STREAM, 0), peer;

	if (connect(client, (struct sockaddr *)&address, sizeof(address)))
		fail("connect");
	peer = accept(listener, NULL, NULL);
	/* A reset leaves no TIME_WAIT behind, so ports do not run out. */
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(client);
	close(peer);
}

static void listen_somewhere(void)
{
	socklen_t size = sizeof(address);

	listener = socket(AF_INET, SOCK_STREAM, 0);
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 16))
		fail("listen");
	getsockname(listener, (struct sockaddr *)&address, &size);
}

static void open_node(const char *path)
{
	node = open(path, O_RDWR);
	if (node < 0)
		fail(path);
}

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int compare(const void *left, const void *right)
{
	double difference = *(const double *)left - *(const double *)right;

	return (difference > 0) - (difference < 0);
}

#define SLICES 1000

static void measure(void (*operation)(void), long count)
{
	static double slices[SLICES];
	long each = count / SLICES;
	long long begin = now();

	for (int slice = 0; slice < SLICES; slice++) {
		long long from = now();

		for (long left = each; left > 0; left--)
			operation();
		slices[slice] = (double)(now() - from) / each;
	}
	printf("{\"mean\": %.1f, ", (double)(now() - begin) / (each * SLICES));
	qsort(slices, SLICES, sizeof(slices[0]), compare);
	printf("\"slice\": %.1f}\n", slices[SLICES / 2]);
}

int main(int count, char **words)
{
	void (*operation)(void) = NULL;

	if (count > 1 && !strcmp(words[1], "exit"))
		return 0;
	if (count < 3)
		return 2;
	if (!strcmp(words[1], "getppid"))
		operation = do_getppid;
	if (!strcmp(words[1], "read") || !strcmp(words[1], "write")) {
		open_node("/dev/zero");
		operation = words[1][0] == 'r' ? do_read : do_write;
	}
	if (!strcmp(words[1], "ioctl-pipe")) {
		if (pipe(fds))
			fail("pipe");
		node = fds[0];
		operation = do_ioctl;
	}
	if (!strcmp(words[1], "ioctl-tty")) {
		open_node("/dev/ptmx");
		operation = do_ioctl;
	}
	if (!strcmp(words[1], "ioctl-gpu")) {
		open_node(words[3]);
		operation = do_ioctl;
	}
	if (!strcmp(words[1], "exec"))
		operation = do_exec;
	if (!strcmp(words[1], "tcp")) {
		listen_somewhere();
		operation = do_tcp;
	}
	if (!operation)
		return 2;
	measure(operation, atol(words[2]));
	return 0;
}
