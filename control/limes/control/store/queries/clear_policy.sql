-- Forgets the policy and what was made of it.
DELETE FROM policy_jobs;
DELETE FROM policy_trainers;
DELETE FROM policy_allow;
DELETE FROM policy_internal;
DELETE FROM policy_job_cgroups;
