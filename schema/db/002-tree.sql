-- SPDX-License-Identifier: BSD-2-Clause
-- Which disk's image lies on which (daemon/sr/tree.h). A row goes with its child; a
-- parent's row that goes leaves those of its children, which say what they lack.
CREATE TABLE tree (
	child TEXT NOT NULL PRIMARY KEY,
	parent TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX tree_parent ON tree (parent);
CREATE TRIGGER tree_child_gone AFTER DELETE ON "VDI" BEGIN
	DELETE FROM tree WHERE child = OLD.ref;
END;
