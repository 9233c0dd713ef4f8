/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Settings, shared maps and loss counters. Everything else builds on this file. */
#ifndef LIMES_BASE_H
#define LIMES_BASE_H

#include "compat.h"
#include "event.h"

#define MAX_PROCESSES 65536
#define MAX_SOCKETS 65536

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

/*
 * Settings, written by the loader before the programs are loaded. `SETTING(x)` is a constant to the
 * verifier, which removes what it makes dead: with scope_count 0 (the whole host) no scope check is left.
 */
#ifndef LIMES_BCC
struct settings {
	__u32 abi_version; /* the loader refuses an object whose number differs from the package's */
	__u32 scope_count; /* 0 means the whole host */
	__u64 scope_id[4];
	__u32 scope_level[4];
	__u32 syscall_results; /* 1 when sys_exit gives the results of connects (plan tracepoint) */
	__u32 gpu_lowest_major; /* no device below it is a GPU: terminals are told by one comparison */
};

const volatile struct settings settings = {.abi_version = EVENT_ABI_VERSION};
#define SETTING(name) (settings.name)
#define SETTING_AT(name, index) (settings.name[index])
#else
#define SETTING(name) (SETTING_##name)
#define SETTING_AT(name, index) (SETTING_##name##_##index)
#endif

/* What is known of a running process, from its first sight on. */
struct image {
	__u64 exec_id;
	__u64 start_ns;
};

MAP_HASH(images, __u32, struct image, MAX_PROCESSES);
MAP_PERCPU_ARRAY(counters, __u64, COUNTER_MAX);

static __always_inline void base__count(__u32 counter)
{
	__u64 *cell = MAP_LOOKUP(counters, &counter);

	/* Atomic: softirq and preempting programs count on the same CPU. */
	if (cell)
		__sync_fetch_and_add(cell, 1);
}

/* The smaller of both, in a form whose range the verifier keeps: the compiler may otherwise test one copy
 * of the value and pass another. */
static __always_inline __u64 base__at_most(__u64 value, __u64 most)
{
	asm volatile("" : "+r"(value));
	if (value > most)
		value = most;
	asm volatile("" : "+r"(value));
	return value;
}

/* Unique within a boot: the boot clock, with the CPU in the bits below a quarter of a microsecond. */
static __always_inline __u64 base__mint_id(void)
{
	return (bpf_ktime_get_boot_ns() & ~0xffULL) | (bpf_get_smp_processor_id() & 0xff);
}

#endif /* LIMES_BASE_H */
