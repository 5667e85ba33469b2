<?php

/**
 * For php-fpm: `opcache.preload` names this file. FFI is allowed in what is preloaded, and nowhere else, with PHP's default
 * `ffi.enable=preload`.
 */

declare(strict_types=1);

$header = getenv('EWSNOTIFY_HEADER') ?: __DIR__ . '/../../include/ewsnotify_ffi.h';
$library = getenv('EWSNOTIFY_LIBRARY') ?: 'libewsnotify.so';
$text = "#define FFI_SCOPE \"ewsnotify\"\n#define FFI_LIB \"$library\"\n" . file_get_contents($header);
$scoped = tempnam(sys_get_temp_dir(), 'ewsn');
file_put_contents($scoped, $text);
FFI::load($scoped);
unlink($scoped);
opcache_compile_file(__DIR__ . '/Ewsnotify.php');
