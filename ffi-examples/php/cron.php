<?php

/**
 * A bounded run, for cron: tells what came since the last one and what comes meanwhile, then ends. At most one runs at a time.
 *
 *     php cron.php OPTIONS-AS-JSON SECONDS
 *
 * The options need a state_dir. Ends with 0; with 3, at once, where another run is still at it; with 5 where a mailbox was given up.
 */

declare(strict_types=1);

require __DIR__ . '/Ewsnotify.php';

$options = json_decode($argv[1], true, 512, JSON_THROW_ON_ERROR);
$options += ['ack' => 'manual', 'drain_seconds' => (int) $argv[2]];
$givenUp = false;

try {
    $client = Ewsnotify\Client::open($options);
} catch (Ewsnotify\Failure $e) {
    fwrite(STDERR, $e->getMessage() . "\n");
    exit($e->status === Ewsnotify\Client::E_LOCKED ? 3 : 1);
}
$client->watch();
// The client closes by itself when the time is over.
while (($event = $client->next(-1)) !== false) {
    if ($event === null) {
        continue;
    }
    fwrite(STDOUT, json_encode($event, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES) . "\n");
    $givenUp = $givenUp || ($event['type'] === 'Closed' && isset($event['watch']) && $event['reason'] !== 'closed-by-host');
    if (isset($event['item_id'])) {
        $client->ack($event);
    }
}
exit($givenUp ? 5 : 0);
