-- SPDX-License-Identifier: BSD-2-Clause
-- The collector asks for the few images of an SR that are no client's disk, after each change
-- of a chain; its other VDIs may be thousands.
CREATE INDEX "VDI_unmanaged" ON "VDI" ("SR") WHERE managed = 0;
