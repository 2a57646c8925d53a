# SPDX-License-Identifier: BSD-2-Clause
# Prints the numbered steps of schema/db as a C table, so that the program needs no
# file at run time. Arguments: the steps, in any order of folders, named NNN-what.sql.
function end_step() {
	if (name != "")
		print "	},"
}
BEGIN {
	print "#include \"daemon/db/private.h\""
	print ""
	print "const struct db_step db_steps[] = {"
}
FNR == 1 {
	end_step()
	n = split(FILENAME, parts, "/")
	name = parts[n]
	if (substr(name, 1, 3) + 0 != ++number) {
		print FILENAME ": is not step " number > "/dev/stderr"
		exit 1
	}
	print "	{"
	print "		.number = " number ","
	print "		.name = \"" name "\","
	print "		.sql ="
}
{
	gsub(/\\/, "\\\\")
	gsub(/"/, "\\\"")
	print "\"" $0 "\\n\""
}
END {
	end_step()
	print "	{ 0, NULL, NULL },"
	print "};"
}
