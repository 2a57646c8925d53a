-- SPDX-License-Identifier: BSD-2-Clause
-- A scan may make thousands of VDIs, and each index takes its share of each. Nearly none of
-- them is a snapshot or holds a pool's database: those that are none are not in the indexes.
DROP INDEX "VDI_metadata_of_pool";
CREATE INDEX "VDI_metadata_of_pool" ON "VDI" ("metadata_of_pool")
	WHERE "metadata_of_pool" <> 'OpaqueRef:NULL';
DROP INDEX "VDI_snapshot_of";
CREATE INDEX "VDI_snapshot_of" ON "VDI" ("snapshot_of") WHERE "snapshot_of" <> 'OpaqueRef:NULL';

-- The same sums (006, 008). An SR has its row from the beginning: to add one where it was
-- missing took a table of its own for each VDI that was made.
INSERT OR IGNORE INTO sr_sizes (sr, units, bytes) SELECT ref, 0, 0 FROM "SR";
CREATE TRIGGER sr_sizes_sr_made AFTER INSERT ON "SR" BEGIN
	DELETE FROM sr_sizes WHERE sr = NEW.ref;
	INSERT INTO sr_sizes (sr, units, bytes)
		SELECT NEW.ref, IFNULL(SUM(virtual_size / 65536), 0),
			IFNULL(SUM(virtual_size % 65536), 0) FROM "VDI" WHERE "SR" = NEW.ref;
END;
DROP TRIGGER sr_sizes_vdi_made;
CREATE TRIGGER sr_sizes_vdi_made AFTER INSERT ON "VDI" BEGIN
	UPDATE sr_sizes SET units = units + NEW.virtual_size / 65536,
		bytes = bytes + NEW.virtual_size % 65536 WHERE sr = NEW."SR";
END;
