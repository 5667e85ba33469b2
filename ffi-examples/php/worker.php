<?php

/**
 * Prints what happens in a mailbox, a JSON line each, and saves each new message: a worker as systemd or supervisor runs it.
 *
 *     php worker.php OPTIONS-AS-JSON [FOLDER-FOR-MESSAGES] [next | dispatch]
 *
 * SIGTERM and Ctrl-C end it.
 */

declare(strict_types=1);

require __DIR__ . '/Ewsnotify.php';

$options = json_decode($argv[1], true, 512, JSON_THROW_ON_ERROR);
$folder = $argv[2] ?? '';
$manual = ($options['ack'] ?? '') === 'manual';

$running = true;
pcntl_async_signals(true);
foreach ([SIGTERM, SIGINT] as $signal) {
    pcntl_signal($signal, function () use (&$running): void {
        $running = false;
    });
}

$client = Ewsnotify\Client::open($options);
$client->watch();

$handle = function (array $event) use ($client, $folder, $manual): void {
    if ($folder !== '' && $event['type'] === 'NewMail') {
        $client->saveMime($event['watch'], $event['item_id'], $event['change_key'] ?? null, "$folder/{$event['seq']}.eml");
    }
    fwrite(STDOUT, json_encode($event, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES) . "\n");
    if ($manual && isset($event['item_id'])) {
        $client->ack($event);
    }
};

if (($argv[3] ?? 'next') === 'dispatch') {
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
