-- SPDX-License-Identifier: BSD-2-Clause
-- Volumes are matched with VDIs by their names, one by one.
CREATE INDEX "VDI_location" ON "VDI" ("location");
