/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Scope: which cgroups are watched. Each program asks first, before it filters or reads anything. */
#ifndef LIMES_SCOPE_H
#define LIMES_SCOPE_H

#include "core_fixes.h"

static __always_inline bool scope__current_under(__u32 level, __u64 id)
{
	return bpf_get_current_ancestor_cgroup_id(level) == id;
}

#define SCOPE__CURRENT_IS(n)           \
	(SETTING(scope_count) > (n) && \
	 scope__current_under(SETTING_AT(scope_level, n), SETTING_AT(scope_id, n)))

/* The current task is the subject. */
static __always_inline bool scope__current(void)
{
	return SETTING(scope_count) == 0 || SCOPE__CURRENT_IS(0) || SCOPE__CURRENT_IS(1) ||
	       SCOPE__CURRENT_IS(2) || SCOPE__CURRENT_IS(3);
}

static __always_inline bool scope__under(struct cgroup *cgroup, __u32 level, __u64 id)
{
	return READ(cgroup, level) >= (int)level && core_fixes__ancestor_id(cgroup, level) == id;
}

#define SCOPE__CGROUP_IS(n)            \
	(SETTING(scope_count) > (n) && \
	 scope__under(cgroup, SETTING_AT(scope_level, n), SETTING_AT(scope_id, n)))

/* A cgroup is the subject: the target of a cgroup event, or where a child was put by fork. */
static __always_inline bool scope__cgroup(struct cgroup *cgroup)
{
	return SETTING(scope_count) == 0 || SCOPE__CGROUP_IS(0) || SCOPE__CGROUP_IS(1) ||
	       SCOPE__CGROUP_IS(2) || SCOPE__CGROUP_IS(3);
}

#endif /* LIMES_SCOPE_H */
