<?php

/**
 * Prints what happens in a mailbox, a JSON line each: a worker as systemd or supervisor runs it.
 *
 *     EWSNOTIFY_OPTIONS='{"url": "mail.example.com", "user": "ada@example.com", "password": "..."}' php worker.php [next | dispatch]
 *
 * With "fetch": "mime" and "spool_dir": "mails" among the options, each message is in a file there, which the line names in mime_path;
 * with "state_dir", a restart goes on where this run stood. It ends with 0 by Ctrl-C or SIGTERM, with 2 without options, with 4 when the
 * sign-in is refused, and else with 1.
 */

declare(strict_types=1);

require __DIR__ . '/Ewsnotify.php';

const RETRY = 60_000;

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
if ($json === false) {
    fwrite(STDERR, "EWSNOTIFY_OPTIONS is not set: it has the options, as JSON\n");
    exit(2);
}
$options = json_decode($json, true, 512, JSON_THROW_ON_ERROR);
$givenUp = 0;

$running = true;
pcntl_async_signals(true);
foreach ([SIGTERM, SIGINT] as $signal) {
    pcntl_signal($signal, function () use (&$running): void {
        $running = false;
    });
}

$client = Ewsnotify\Client::open($options);
// An event counts as dealt with when $handle says so.
$client->watch(['ack' => 'manual']);

$handle = function (array $event) use ($client, &$running, &$givenUp): void {
    tell($event);
    if (($event['content'] ?? '') === 'unavailable') {
        // The server or the disk is in trouble: told again later, and its message is asked for anew.
        $client->retry($event, RETRY);
    } elseif (isset($event['item_id'])) {
        $client->ack($event);
    }
    $reason = $event['reason'] ?? '';
    if ($event['type'] === 'Closed' && isset($event['watch']) && $reason !== 'closed-by-host') {
        // The only watch was given up; an Error before it said why. Nothing more would come.
        $givenUp = $reason === 'sign-in-refused' ? 4 : 1;
        $running = false;
    }
};

if (($argv[1] ?? 'next') === 'dispatch') {
    $client->onEvent($handle);
    while ($running && $client->dispatch(1000) !== false) {
    }
} else {
    // A second, so that the host can look at its limits and its database now and then.
    while ($running && ($event = $client->next(1000)) !== false) {
        if ($event !== null) {
            $handle($event);
        }
    }
}
$client->close();
exit($givenUp);
