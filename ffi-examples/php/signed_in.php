<?php

/**
 * The second page, after sign_in.php: the browser is back from the issuer, and the code that it brought is exchanged for tokens. They go
 * into the store (state_dir or oauth_token_store), where the worker finds and renews them.
 */

declare(strict_types=1);

// Under php-fpm it is there already: see preload.php.
class_exists(Ewsnotify\Client::class) || require __DIR__ . '/Ewsnotify.php';

use Ewsnotify\Client;

// Who comes without the cookie gets no new session, which would take the place of the administrator's.
if (isset($_COOKIE[session_name()])) {
    session_start(['cookie_httponly' => true, 'cookie_samesite' => 'Lax', 'use_strict_mode' => true]);
}
header('Content-Type: text/html; charset=utf-8');

function show(int $status, string $text): never
{
    http_response_code($status);
    exit('<!DOCTYPE html><title>Mailbox</title><p>' . htmlspecialchars($text) . ' <a href="sign_in.php">Back</a>');
}

// Once only: who loads this page again must not try the same code.
$kept = $_SESSION['ewsnotify_kept'] ?? null;
unset($_SESSION['ewsnotify_kept']);
session_write_close();
if ($kept === null) {
    show(400, 'There is no sign-in under way: begin again.');
}
try {
    $options = json_decode((string) getenv('EWSNOTIFY_OPTIONS'), true, 512, JSON_THROW_ON_ERROR);
    $done = Client::signInFinish($options, $kept, $_SERVER['QUERY_STRING'] ?? '');
} catch (Ewsnotify\Failure $e) {
    // $e->serverCode has the issuer's code: access_denied, invalid_grant and the like.
    error_log("the sign-in has failed: {$e->getMessage()}");
    show(400, $e->getMessage());
}
if (!$done['stored']) {
    // $done['refresh_token'] is for the program's own database then, encrypted.
    show(500, 'The tokens are stored nowhere: set state_dir or oauth_token_store.');
}
show(200, $done['lasting'] ? 'The mailbox is connected.' : 'Connected, but for an hour: the scope lacks offline_access.');
