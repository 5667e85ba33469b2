<?php

/**
 * Watches a mailbox with tokens that this program fetches itself, as a help desk does that has its users' sign-ins in a database
 * of its own.
 *
 *     php own_tokens.php OPTIONS-AS-JSON TOKEN-URL CLIENT-ID REFRESH-TOKEN-FILE
 *
 * The options have "auth": "host". Each event is a JSON line. The file stands for the database: it has the refresh token, and is
 * replaced whenever the issuer gives another. Ends with 4 where the user has to sign in anew.
 */

declare(strict_types=1);

require __DIR__ . '/Ewsnotify.php';

const AGAIN = 30;

final class SignInNeeded extends RuntimeException
{
}

/** A new access token, and when it ends. */
function fetch(string $url, string $clientId, string $path, ?string $caFile, ?string $claims): array
{
    $form = ['grant_type' => 'refresh_token', 'client_id' => $clientId, 'refresh_token' => trim(file_get_contents($path))];
    if ($claims !== null) {
        $form['claims'] = $claims;
    }
    $asked = time();
    $context = stream_context_create([
        'http' => [
            'method' => 'POST',
            'header' => 'Content-Type: application/x-www-form-urlencoded',
            'content' => http_build_query($form),
            'timeout' => 30,
            'ignore_errors' => true,
        ],
        'ssl' => $caFile === null ? [] : ['cafile' => $caFile],
    ]);
    $body = @file_get_contents($url, false, $context);
    if ($body === false) {
        throw new RuntimeException("$url does not answer");
    }
    $status = (int) explode(' ', $http_response_header[0])[1];
    $answer = json_decode($body, true) ?? [];
    // 400 and 401 are for people; what else there is may pass.
    if ($status === 400 || $status === 401) {
        throw new SignInNeeded(($answer['error'] ?? $status) . ': ' . ($answer['error_description'] ?? ''));
    }
    if ($status !== 200 || !isset($answer['access_token'], $answer['expires_in'])) {
        throw new RuntimeException("$url answered $status");
    }
    if (isset($answer['refresh_token'])) {
        // Kept before anything else: the old one may be of no use any more.
        touch("$path.new");
        chmod("$path.new", 0600);
        $length = strlen($answer['refresh_token']);
        if (file_put_contents("$path.new", $answer['refresh_token']) !== $length || !rename("$path.new", $path)) {
            throw new RuntimeException("the new refresh token cannot be kept in $path");
        }
    }
    return [$answer['access_token'], $asked + $answer['expires_in']];
}

[, $json, $url, $clientId, $path] = $argv;
$options = json_decode($json, true, 512, JSON_THROW_ON_ERROR);
$client = Ewsnotify\Client::open($options);
$client->watch();

$owed = null; // the TokenNeeded that is not answered yet
$tryAt = 0;
$signInNeeded = false;
while (($event = $client->next($owed === null ? 1000 : max(0, $tryAt - time()) * 1000)) !== false) {
    if ($event !== null) {
        fwrite(STDOUT, json_encode($event, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES) . "\n");
        if ($event['type'] === 'TokenNeeded') {
            [$owed, $tryAt] = [$event, 0];
        } elseif ($event['type'] === 'Closed' && isset($event['watch'])) {
            $signInNeeded = $signInNeeded || ($event['reason'] ?? '') === 'sign-in-refused';
            $client->close();
        }
    }
    if ($owed !== null && $tryAt <= time()) {
        try {
            [$token, $expires] = fetch($url, $clientId, $path, $options['ca_file'] ?? null, $owed['claims'] ?? null);
            $client->setToken($owed['account'], $token, $expires);
            $owed = null;
        } catch (SignInNeeded $why) {
            $client->denyToken($owed['account'], $why->getMessage());
            $owed = null;
        } catch (RuntimeException $e) {
            fwrite(STDERR, "no token for now: {$e->getMessage()}\n");
            $tryAt = time() + AGAIN;
        }
    }
}
exit($signInNeeded ? 4 : 0);
