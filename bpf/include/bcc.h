/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The bcc half of compat.h. bcc's own prologue defines BPF_PROG, the helpers and the table macros. */
#ifndef LIMES_BCC_H
#define LIMES_BCC_H

#define SEC(name)
#define NO_WAKEUP BPF_RB_NO_WAKEUP

#define MAP_HASH(map, key_type, value_type, size) BPF_TABLE("hash", key_type, value_type, map, size)
#define MAP_PERCPU_HASH(map, key_type, value_type, size) \
	BPF_TABLE("percpu_hash", key_type, value_type, map, size)
#define MAP_LRU_HASH(map, key_type, value_type, size) \
	BPF_TABLE("lru_hash", key_type, value_type, map, size)
#define MAP_ARRAY(map, value_type, size) BPF_TABLE("array", __u32, value_type, map, size)
#define MAP_PERCPU_ARRAY(map, value_type, size) \
	BPF_TABLE("percpu_array", __u32, value_type, map, size)
#define MAP_RING(map, bytes) BPF_RINGBUF_OUTPUT(map, (bytes) / 4096)

/* MAP_LOOKUP and its kin are spelled out by the loader: bcc allows no map function inside a macro. */

#define TRACEPOINT(hook, name, args...) BPF_PROG(name, ##args)
#define FENTRY(hook, name, args...) BPF_PROG(kfunc__##hook, ##args)
#define FEXIT(hook, name, args...) BPF_PROG(kretfunc__##hook, ##args)
#define RUN_BY_SENSOR(name, args...) BPF_PROG(name, ##args)

/* The `+ 0` drops const; reading into a zeroed wider integer is right on little-endian machines. */
#define READ_1(p, a)                                                         \
	({                                                                   \
		__typeof__(((p)->a) + 0) read_value = 0;                     \
		bpf_probe_read_kernel(&read_value, sizeof((p)->a), &(p)->a); \
		read_value;                                                  \
	})
#define READ_2(p, a, b) READ_1(READ_1(p, a), b)
#define READ_3(p, a, b, c) READ_1(READ_2(p, a, b), c)
#define READ_4(p, a, b, c, d) READ_1(READ_3(p, a, b, c), d)
#define READ_PICK(p, a, b, c, d, name, ...) name
#define READ(...) READ_PICK(__VA_ARGS__, READ_4, READ_3, READ_2, READ_1)(__VA_ARGS__)
#define LOAD(...) READ(__VA_ARGS__)

#endif /* LIMES_BCC_H */
