-- SPDX-License-Identifier: BSD-2-Clause
-- Changed block tracking (daemon/sr/cbt.h): the VDIs that are tracked, which one's state
-- each counts from ('': none), and the volume with what is written down of it ('': none).
-- A row goes with its VDI; those that counted from it count from nothing any more.
CREATE TABLE cbt (
	vdi TEXT NOT NULL PRIMARY KEY,
	parent TEXT NOT NULL,
	log TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX cbt_parent ON cbt (parent);
CREATE TRIGGER cbt_vdi_gone AFTER DELETE ON "VDI" BEGIN
	DELETE FROM cbt WHERE vdi = OLD.ref;
	UPDATE cbt SET parent = '' WHERE parent = OLD.ref;
END;
