<?php

/**
 * A page that shows how the mailboxes of a worker, or of `ewsnotify drain` or `run`, are: it reads status.json of their state directory
 * (environment EWSNOTIFY_STATE_DIR), without the library.
 */

declare(strict_types=1);

$file = getenv('EWSNOTIFY_STATE_DIR') . '/status.json';
$text = @file_get_contents($file);
header('Content-Type: text/html; charset=utf-8');
if ($text === false) {
    http_response_code(503);
    exit('<p>Nothing runs yet: there is no status file.');
}
$status = json_decode($text, true, 512, JSON_THROW_ON_ERROR);
echo '<!doctype html><title>Mailboxes</title><table border=1>';
foreach ($status as $name => $value) {
    $shown = is_scalar($value) ? (string) $value : json_encode($value, JSON_PRETTY_PRINT | JSON_UNESCAPED_UNICODE);
    echo '<tr><th>', htmlspecialchars((string) $name), '<td><pre>', htmlspecialchars($shown), '</pre>';
}
echo '</table>';
