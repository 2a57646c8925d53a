-- SPDX-License-Identifier: BSD-2-Clause
-- Who makes a row adds its size (daemon/db/sizes.c): with a trigger behind it, a statement that
-- makes many rows takes twice as long.
DROP TRIGGER sr_sizes_vdi_made;
