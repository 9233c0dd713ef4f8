-- What the ids that `kept` lists stand for.
SELECT process_images.*
FROM process_images
SEMI JOIN kept USING (host_id, process_exec_id);
