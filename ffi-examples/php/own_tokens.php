<?php

/**
 * Watches a mailbox with tokens that this program fetches itself, as a help desk does that has its users' sign-ins in a database
 * of its own.
 *
 *     EWSNOTIFY_OPTIONS='{"url": "mail.example.com", "user": "ada@example.com", "auth": "host"}' \
 *     php own_tokens.php TOKEN-URL CLIENT-ID REFRESH-TOKEN-FILE
 *
 * Each event is a JSON line. The file stands for the database: it has the refresh token, and is replaced whenever the issuer gives
 * another. It ends with 2 without options or arguments, with 4 where the user has to sign in anew, and with 1 when the mailbox is given up
 * otherwise.
 */

declare(strict_types=1);

require __DIR__ . '/Ewsnotify.php';

const AGAIN = 30;
const RETRY = 60_000;

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

/** A line that cannot be written ends the program before its event counts as dealt with: the next run tells it again. */
function tell(array $event): void
{
    $line = json_encode($event, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES) . "\n";
    if (@fwrite(STDOUT, $line) !== strlen($line)) {
        throw new RuntimeException('standard output: ' . (error_get_last()['message'] ?? 'cannot be written'));
    }
}

set_exception_handler(function (Throwable $e): never {
    fwrite(STDERR, "{$e->getMessage()}\n");
    exit(1);
});

$json = getenv('EWSNOTIFY_OPTIONS');
if ($json === false || $argc !== 4) {
    fwrite(STDERR, "usage: EWSNOTIFY_OPTIONS='{\"url\": …}' php own_tokens.php TOKEN-URL CLIENT-ID REFRESH-TOKEN-FILE\n");
    exit(2);
}
[, $url, $clientId, $path] = $argv;
$options = json_decode($json, true, 512, JSON_THROW_ON_ERROR);
$client = Ewsnotify\Client::open($options);
// An event counts as dealt with when it is acknowledged.
$client->watch(['ack' => 'manual']);

$owed = null; // the TokenNeeded that is not answered yet
$tryAt = 0;
$givenUp = 0;
while (($event = $client->next($owed === null ? 1000 : max(0, $tryAt - time()) * 1000)) !== false) {
    if ($event !== null) {
        tell($event);
        if (($event['content'] ?? '') === 'unavailable') {
            $client->retry($event, RETRY);
        } elseif (isset($event['item_id'])) {
            $client->ack($event);
        }
        if ($event['type'] === 'TokenNeeded') {
            [$owed, $tryAt] = [$event, 0];
        } elseif ($event['type'] === 'Closed' && isset($event['watch']) && ($event['reason'] ?? '') !== 'closed-by-host') {
            $givenUp = ($event['reason'] ?? '') === 'sign-in-refused' ? 4 : 1;
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
exit($givenUp);
