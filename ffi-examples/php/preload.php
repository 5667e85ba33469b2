<?php

/**
 * For php-fpm, where FFI is allowed in what is preloaded and nowhere else (PHP's default, `ffi.enable=preload`). In php.ini:
 *
 *     ffi.preload = /usr/local/include/ewsnotify_php.h     ; `make install` puts it there: the declarations, and where the library is
 *     opcache.preload = /usr/local/share/ewsnotify/php/preload.php
 *     opcache.preload_user = www-data
 *
 * Watching belongs into a worker of the command line. A page shows its status file (status.php), lets a user sign in
 * (sign_in.php, signed_in.php), or asks for an item.
 */

declare(strict_types=1);

opcache_compile_file(__DIR__ . '/Ewsnotify.php');
