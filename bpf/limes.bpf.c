/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The whole kernel side as one object: the domains share the tables of images and the counters. */
#include "programs/process.bpf.c"
#include "programs/network.bpf.c"
#include "programs/gpu.bpf.c"
#include "programs/cgroup.bpf.c"
