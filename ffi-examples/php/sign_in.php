<?php

/**
 * The first of two pages by which an administrator connects a mailbox: it sends the browser to the issuer (Microsoft), which sends it
 * back to signed_in.php. To try it:
 *
 *     EWSNOTIFY_OPTIONS='{"user": "support@example.com", "oauth_tenant": "example.com", "oauth_client_id": "…", "state_dir": "…"}' \
 *     EWSNOTIFY_REDIRECT=http://localhost:8000/signed_in.php php -d ffi.enable=true -S localhost:8000 -t ffi-examples/php
 *
 * and open http://localhost:8000/sign_in.php. EWSNOTIFY_OPTIONS are those of the worker that watches the mailbox; EWSNOTIFY_REDIRECT is
 * registered with the issuer, letter for letter. A help desk takes both from its settings, and lets only administrators come here.
 */

declare(strict_types=1);

// Under php-fpm it is there already: see preload.php.
class_exists(Ewsnotify\Client::class) || require __DIR__ . '/Ewsnotify.php';

use Ewsnotify\Client;

header('Content-Type: text/html; charset=utf-8');

// Nobody is sent off by a link or a form from elsewhere: it takes this page's own form, with the session's token in it. A stranger's form
// comes without the cookie (Lax), and gets no new session, which would take the place of the administrator's.
$posted = $_SERVER['REQUEST_METHOD'] === 'POST';
if (!$posted || isset($_COOKIE[session_name()])) {
    // Lax: the browser comes back from the issuer's site, and must bring the cookie along.
    session_start(['cookie_httponly' => true, 'cookie_samesite' => 'Lax', 'use_strict_mode' => true]);
}
if (!$posted) {
    $token = $_SESSION['ewsnotify_token'] ??= bin2hex(random_bytes(32));
    exit('<!DOCTYPE html><title>Mailbox</title><form method="post"><input type="hidden" name="token" value="' . $token . '">'
        . '<button>Connect the mailbox</button></form>');
}
$token = $_SESSION['ewsnotify_token'] ?? null;
if ($token === null || !hash_equals($token, (string) filter_input(INPUT_POST, 'token'))) {
    http_response_code(403);
    exit('<!DOCTYPE html><title>Mailbox</title><p>This did not come from the form of this page, or the session has ended: '
        . '<a href="sign_in.php">begin again</a>.');
}
try {
    $options = json_decode((string) getenv('EWSNOTIFY_OPTIONS'), true, 512, JSON_THROW_ON_ERROR);
    $begun = Client::signInBegin($options, (string) getenv('EWSNOTIFY_REDIRECT'));
} catch (Ewsnotify\Failure $e) {
    http_response_code(500);
    exit('<!DOCTYPE html><title>Mailbox</title><p>' . htmlspecialchars($e->getMessage()));
}
$_SESSION['ewsnotify_kept'] = $begun['kept'];
header('Location: ' . $begun['url'], true, 303);
