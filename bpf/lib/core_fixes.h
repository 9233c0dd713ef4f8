/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The only place that knows how kernel structures differ between versions. */
#ifndef LIMES_CORE_FIXES_H
#define LIMES_CORE_FIXES_H

#include "base.h"

/* Id of a cgroup's ancestor at a level. Up to 6.0 cgroups keep ids, since 6.1 pointers
 * (kernel commit 7f203bc89eb6). The level must be at most the cgroup's own. */
static __always_inline __u64 core_fixes__ancestor_id(struct cgroup *cgroup, __u32 level)
{
	struct cgroup *ancestor = 0;
	__u64 id = 0;

#ifdef LIMES_BCC
	/* Without `->`: bcc would turn the array access into a read of its own, and its address is wanted. */
	bpf_probe_read_kernel(&ancestor, sizeof(ancestor),
			      (void *)cgroup + __builtin_offsetof(struct cgroup, ancestors) +
				      (level & 0xff) * sizeof(ancestor));
#else
	if (!FIELD_EXISTS(cgroup->ancestors)) {
		struct cgroup___v5_10 *old = (void *)cgroup;

		bpf_probe_read_kernel(&id, sizeof(id), &old->ancestor_ids[level & 0xff]);
		return id;
	}
	bpf_probe_read_kernel(&ancestor, sizeof(ancestor), &cgroup->ancestors[level & 0xff]);
#endif
	return READ(ancestor, kn, id);
}

#endif /* LIMES_CORE_FIXES_H */
