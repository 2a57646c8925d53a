-- SPDX-License-Identifier: BSD-2-Clause
-- The same sums. Because of an ON CONFLICT in it sqlite kept, for each row that was made, all
-- pages that changed, though no step of it can fail.
DROP TRIGGER sr_sizes_vdi_made;
CREATE TRIGGER sr_sizes_vdi_made AFTER INSERT ON "VDI" BEGIN
	INSERT INTO sr_sizes (sr, units, bytes) SELECT NEW."SR", 0, 0
		WHERE NOT EXISTS (SELECT 1 FROM sr_sizes WHERE sr = NEW."SR");
	UPDATE sr_sizes SET units = units + NEW.virtual_size / 65536,
		bytes = bytes + NEW.virtual_size % 65536 WHERE sr = NEW."SR";
END;
