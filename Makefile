# Builds the library for C, C++, Python and PHP: make FEATURES=
# Installs it, without cargo, which root seldom has: make install PREFIX=/usr/local DESTDIR=

PREFIX ?= /usr/local
# Cargo features of the library: gssapi for Kerberos.
FEATURES ?=
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
# The wrappers for PHP and Python.
SHAREDIR ?= $(PREFIX)/share/ewsnotify
CARGO ?= cargo
# Where cargo puts what it builds.
TARGET ?= $(or $(CARGO_TARGET_DIR),target)/release

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# As in build.rs: before 1.0 a minor version may break the interface.
NUMBERS = $(subst ., ,$(VERSION))
SONAME = libewsnotify.so.$(firstword $(NUMBERS)).$(word 2,$(NUMBERS))

.PHONY: all install uninstall

all:
	$(CARGO) build --release --lib --features '$(FEATURES)'

install:
	@test -f $(TARGET)/libewsnotify.so || { echo 'there is no $(TARGET)/libewsnotify.so: run make first, or say where it is by TARGET=' >&2; exit 1; }
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(LIBDIR)/cmake/ewsnotify $(DESTDIR)$(INCLUDEDIR) \
	  $(DESTDIR)$(SHAREDIR)/php $(DESTDIR)$(SHAREDIR)/python
	install -m 755 $(TARGET)/libewsnotify.so $(DESTDIR)$(LIBDIR)/libewsnotify.so.$(VERSION)
	ln -sf libewsnotify.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libewsnotify.so
	install -m 644 include/ewsnotify.h include/ewsnotify.hpp include/ewsnotify_ffi.h $(DESTDIR)$(INCLUDEDIR)
	install -m 644 ffi-examples/php/Ewsnotify.php ffi-examples/php/preload.php include/ewsnotify_ffi.h $(DESTDIR)$(SHAREDIR)/php
	install -m 644 ffi-examples/python/ewsnotify.py $(DESTDIR)$(SHAREDIR)/python
	{ printf '%s\n' '#define FFI_SCOPE "ewsnotify"' '#define FFI_LIB "$(LIBDIR)/$(SONAME)"'; cat include/ewsnotify_ffi.h; } \
	  >$(DESTDIR)$(INCLUDEDIR)/ewsnotify_php.h
	printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$(LIBDIR)' 'includedir=$(INCLUDEDIR)' '' 'Name: ewsnotify' \
	  'Description: Tells a program at once when something happens in an Exchange mailbox' 'Version: $(VERSION)' \
	  'Libs: -L$${libdir} -lewsnotify' 'Cflags: -I$${includedir}' >$(DESTDIR)$(LIBDIR)/pkgconfig/ewsnotify.pc
	printf '%s\n' 'if(NOT TARGET ewsnotify::ewsnotify)' '  add_library(ewsnotify::ewsnotify SHARED IMPORTED)' \
	  '  set_target_properties(ewsnotify::ewsnotify PROPERTIES' '    IMPORTED_LOCATION "$(LIBDIR)/libewsnotify.so"' \
	  '    INTERFACE_INCLUDE_DIRECTORIES "$(INCLUDEDIR)")' 'endif()' \
	  >$(DESTDIR)$(LIBDIR)/cmake/ewsnotify/ewsnotify-config.cmake
	printf '%s\n' 'set(PACKAGE_VERSION "$(VERSION)")' 'set(PACKAGE_VERSION_COMPATIBLE FALSE)' \
	  'if(PACKAGE_FIND_VERSION_MAJOR EQUAL $(firstword $(NUMBERS)) AND PACKAGE_FIND_VERSION_MINOR EQUAL $(word 2,$(NUMBERS))' \
	  '   AND NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION)' '  set(PACKAGE_VERSION_COMPATIBLE TRUE)' 'endif()' \
	  'if(PACKAGE_FIND_VERSION STREQUAL PACKAGE_VERSION)' '  set(PACKAGE_VERSION_EXACT TRUE)' 'endif()' \
	  >$(DESTDIR)$(LIBDIR)/cmake/ewsnotify/ewsnotify-config-version.cmake

uninstall:
	rm -f $(DESTDIR)$(LIBDIR)/libewsnotify.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME) $(DESTDIR)$(LIBDIR)/libewsnotify.so \
	  $(DESTDIR)$(INCLUDEDIR)/ewsnotify.h $(DESTDIR)$(INCLUDEDIR)/ewsnotify.hpp $(DESTDIR)$(INCLUDEDIR)/ewsnotify_ffi.h \
	  $(DESTDIR)$(INCLUDEDIR)/ewsnotify_php.h $(DESTDIR)$(SHAREDIR)/php/Ewsnotify.php $(DESTDIR)$(SHAREDIR)/php/preload.php \
	  $(DESTDIR)$(SHAREDIR)/php/ewsnotify_ffi.h $(DESTDIR)$(SHAREDIR)/python/ewsnotify.py \
	  $(DESTDIR)$(LIBDIR)/pkgconfig/ewsnotify.pc $(DESTDIR)$(LIBDIR)/cmake/ewsnotify/ewsnotify-config.cmake \
	  $(DESTDIR)$(LIBDIR)/cmake/ewsnotify/ewsnotify-config-version.cmake
