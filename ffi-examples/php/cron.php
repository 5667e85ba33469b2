<?php

/**
 * A bounded run, for cron: tells what came since the last one and what comes meanwhile, then ends. At most one runs at a time.
 *
 *     EWSNOTIFY_OPTIONS='{"url": "mail.example.com", "user": "ada@example.com", "password": "...", "state_dir": "state"}' php cron.php 50
 *
 * The number is for how many seconds; the options need a state_dir. It ends with 0; with 2 without options or number; with 3, at once,
 * where another run is still at it; with 4 where the sign-in is refused; with 5 where the mailbox was given up otherwise, or something
 * is left for the next run; and else with 1.
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
if ($json === false || $argc !== 2) {
    fwrite(STDERR, "usage: EWSNOTIFY_OPTIONS='{\"url\": …}' php cron.php SECONDS\n");
    exit(2);
}
$options = json_decode($json, true, 512, JSON_THROW_ON_ERROR);
$options['drain_seconds'] = (int) $argv[1];
$code = 0;
$left = []; // what has to be told again, until it was

try {
    $client = Ewsnotify\Client::open($options);
} catch (Ewsnotify\Failure $e) {
    fwrite(STDERR, $e->getMessage() . "\n");
    exit($e->status === Ewsnotify\Client::E_LOCKED ? 3 : 1);
}
// An event counts as dealt with when it is acknowledged.
$client->watch(['ack' => 'manual']);
// The client closes by itself when the time is over.
while (($event = $client->next(-1)) !== false) {
    if ($event === null) {
        continue;
    }
    tell($event);
    $reason = $event['reason'] ?? '';
    if (($event['content'] ?? '') === 'unavailable') {
        // The server or the disk is in trouble: told again later, and its message is asked for anew.
        $client->retry($event, RETRY);
        $left["$event[type] $event[item_id]"] = true;
    } elseif (isset($event['item_id'])) {
        $client->ack($event);
        unset($left["$event[type] $event[item_id]"]);
    } elseif ($event['type'] === 'Closed' && isset($event['watch']) && $reason !== 'closed-by-host') {
        // The only watch was given up; an Error before it said why. Nothing more would come.
        $code = $reason === 'sign-in-refused' ? 4 : 5;
        $client->close();
    }
}
exit($code ?: ($left === [] ? 0 : 5));
