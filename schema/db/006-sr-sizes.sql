-- SPDX-License-Identifier: BSD-2-Clause
-- What the VDIs of each SR add up to, kept by the changes themselves: an SR may have
-- thousands. In units of 64 KiB and what is beyond them, since huge disks that are empty
-- may add up to more than an integer holds.
CREATE TABLE sr_sizes (
	sr TEXT NOT NULL PRIMARY KEY,
	units INTEGER NOT NULL,
	bytes INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO sr_sizes (sr, units, bytes)
	SELECT "SR", SUM(virtual_size / 65536), SUM(virtual_size % 65536) FROM "VDI" GROUP BY "SR";
CREATE TRIGGER sr_sizes_vdi_made AFTER INSERT ON "VDI" BEGIN
	INSERT INTO sr_sizes (sr, units, bytes)
		VALUES (NEW."SR", NEW.virtual_size / 65536, NEW.virtual_size % 65536)
		ON CONFLICT (sr) DO UPDATE SET units = units + excluded.units,
			bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER sr_sizes_vdi_gone AFTER DELETE ON "VDI" BEGIN
	UPDATE sr_sizes SET units = units - OLD.virtual_size / 65536,
		bytes = bytes - OLD.virtual_size % 65536 WHERE sr = OLD."SR";
END;
CREATE TRIGGER sr_sizes_vdi_changed AFTER UPDATE OF "SR", virtual_size ON "VDI" BEGIN
	UPDATE sr_sizes SET units = units - OLD.virtual_size / 65536,
		bytes = bytes - OLD.virtual_size % 65536 WHERE sr = OLD."SR";
	INSERT INTO sr_sizes (sr, units, bytes)
		VALUES (NEW."SR", NEW.virtual_size / 65536, NEW.virtual_size % 65536)
		ON CONFLICT (sr) DO UPDATE SET units = units + excluded.units,
			bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER sr_sizes_sr_gone AFTER DELETE ON "SR" BEGIN
	DELETE FROM sr_sizes WHERE sr = OLD.ref;
END;
