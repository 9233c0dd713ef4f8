/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Stands in for kernel headers under the bcc loader: the few types and macros that bcc's prologue wants.
 * Kernel structures come from kernel.h, laid out by the running kernel's BTF.
 */
#define CONFIG_BPF_SYSCALL 1
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define PAGE_SIZE 4096
#define NULL ((void *)0)
#define bool _Bool
#define true 1
#define false 0
#define __always_inline inline __attribute__((always_inline))
#define __bitwise
#define container_of(pointer, type, member) \
	((type *)((void *)(pointer) - __builtin_offsetof(type, member)))
#define memcpy __builtin_memcpy
#define memset __builtin_memset

typedef unsigned char __u8, u8, uint8_t;
typedef signed char __s8, s8, int8_t;
typedef unsigned short __u16, u16, uint16_t, __be16, __le16, __sum16;
typedef short __s16, s16, int16_t;
typedef unsigned int __u32, u32, uint32_t, __be32, __le32, __wsum;
typedef int __s32, s32, int32_t, pid_t;
typedef unsigned long long __u64, u64, uint64_t, __be64, __le64;
typedef long long __s64, s64, int64_t;
typedef unsigned long size_t, uintptr_t;
typedef __u64 __attribute__((aligned(8))) __aligned_u64;
