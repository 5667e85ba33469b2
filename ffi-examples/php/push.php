<?php

/**
 * Where Exchange sends notifications to (option mode=push, push_url: the address of this page). It needs no library: it puts what
 * came into the folder `push` of the worker's state directory (environment EWSNOTIFY_STATE_DIR) and answers at once; the worker,
 * worker.php or any other program with the library and that state_dir, takes it from there.
 *
 * Exchange does not sign in: put a secret into the URL, and the same into EWSNOTIFY_PUSH_SECRET:
 *     https://web.example.com/push.php/SECRET  or  https://web.example.com/push.php?secret=SECRET
 *
 * The worker makes the folder. Where it runs as another user than the web server:
 *     chgrp www-data STATE/push && chmod 2770 STATE/push && chmod 711 STATE
 */

declare(strict_types=1);

/** A larger body is no notification. */
const MAX_BYTES = 1 << 20;
/** When so many wait, nobody takes them: the server is asked to try again later. */
const MAX_FILES = 10000;

function answer(int $status, string $subscriptionStatus = ''): never
{
    $body = $subscriptionStatus === '' ? '' : '<?xml version="1.0" encoding="utf-8"?>'
        . '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
        . '<m:SendNotificationResult xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages">'
        . "<m:SubscriptionStatus>$subscriptionStatus</m:SubscriptionStatus></m:SendNotificationResult></s:Body></s:Envelope>";
    http_response_code($status);
    header('Content-Type: text/xml; charset=utf-8');
    header('Content-Length: ' . strlen($body));
    echo $body;
    exit;
}

$secret = (string) getenv('EWSNOTIFY_PUSH_SECRET');
$given = (string) ($_GET['secret'] ?? ltrim((string) ($_SERVER['PATH_INFO'] ?? ''), '/'));
if ($secret === '' || !hash_equals($secret, $given)) {
    answer(404);
}
if (($_SERVER['REQUEST_METHOD'] ?? '') !== 'POST') {
    answer(405);
}
$body = (string) file_get_contents('php://input', false, null, 0, MAX_BYTES + 1);
if (strlen($body) > MAX_BYTES) {
    answer(413);
}
if (!preg_match('/<(?:\w+:)?SendNotification[\s>]/', $body)) {
    answer(400);
}

$folder = getenv('EWSNOTIFY_STATE_DIR') . '/push';
// Subscriptions that the worker does not have, or has ended.
$unwanted = @file($folder . '/unwanted', FILE_IGNORE_NEW_LINES) ?: [];
preg_match_all('/<(?:\w+:)?SubscriptionId\s*>\s*([^<]*?)\s*</', $body, $found);
if ($found[1] !== [] && array_diff($found[1], $unwanted) === []) {
    answer(200, 'Unsubscribe');
}
$waiting = is_dir($folder) ? count(scandir($folder) ?: []) : MAX_FILES;
if ($waiting >= MAX_FILES) {
    error_log("$folder: " . (is_dir($folder) ? 'nobody takes the notifications' : 'there is none; is a worker running?'));
    answer(503);
}
// Names go in the order of coming. Whole from the moment that it has its name.
$name = sprintf('%020d-%s', (int) (microtime(true) * 1e6), bin2hex(random_bytes(8)));
$new = "$folder/.$name.new";
if (@file_put_contents($new, $body) !== strlen($body) || !@chmod($new, 0644) || !@rename($new, "$folder/$name.xml")) {
    error_log("$folder: cannot write there: " . (error_get_last()['message'] ?? 'is the disk full?'));
    @unlink($new);
    answer(503);
}
answer(200, 'OK');
