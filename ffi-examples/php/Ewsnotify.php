<?php

declare(strict_types=1);

/**
 * libewsnotify from PHP, by FFI.
 *
 *     $client = Ewsnotify\Client::open(['url' => 'mail.example.com', 'user' => '…', 'password' => '…']);
 *     $client->watch();
 *     while (($event = $client->next(1000)) !== false) {
 *         if ($event === null) { continue; }
 *         if ($event['type'] === 'NewMail') { … }
 *         if ($event['type'] === 'Closed') { break; } // the watch was given up; the Error before it says why
 *     }
 *
 * Events are arrays, in the JSON form of the library. A signal ends a wait at once: with pcntl_async_signals(true) its handler
 * runs, and next() returns null.
 *
 * PHP 8.1 or newer with FFI, and pcntl for signals. The header ewsnotify_ffi.h is beside this file, where `make install` puts both,
 * in ../../include, or where EWSNOTIFY_HEADER says; the library is EWSNOTIFY_LIBRARY, or what
 * the system finds as libewsnotify.so.0.1. Under php-fpm see preload.php.
 */

namespace Ewsnotify;

final class Failure extends \RuntimeException
{
    /** @param int $status EWSN_E_…  @param ?string $serverCode the server's own code, if it sent one */
    public function __construct(public readonly int $status, string $text, public readonly ?string $serverCode)
    {
        parent::__construct($text, $status);
    }
}

final class Client
{
    private const ABI = 1;
    /** Before 1.0 a minor version may break the interface. */
    private const NAME = 'libewsnotify.so.0.1';
    private const CLOSED = 2;
    public const E_LOCKED = -13;

    private static ?\FFI $ffi = null;

    private ?\Closure $callback = null;

    private function __construct(private ?\FFI\CData $handle)
    {
    }

    /** Opens a client: the options are its own and the defaults of its watches. */
    public static function open(array $options = []): self
    {
        $handle = self::ffi()->ewsn_open_json(self::json($options));
        return $handle === null ? self::fail() : new self($handle);
    }

    /**
     * For a host that keeps the state itself, in a database: $state is what it has, [] at first. Each change comes as a
     * StateChanged event: keep its value under its key, or remove the key where there is no value, then ack() the event.
     *
     * @param array<string, string> $state
     */
    public static function openWithState(array $options, array $state): self
    {
        $handle = self::ffi()->ewsn_open_with_state_json(self::json($options), self::json($state));
        return $handle === null ? self::fail() : new self($handle);
    }

    /** The library's version. */
    public static function version(): string
    {
        return self::ffi()->ewsn_version();
    }

    /** All options: name, scope, default, meaning. */
    public static function options(): array
    {
        return self::decode(self::ffi()->ewsn_options_describe());
    }

    /**
     * Takes the body of a POST that Exchange sends by itself apart, without a client: reply, unsubscribe, messages.
     */
    public static function pushParse(string $body): array
    {
        return self::decode(self::ffi()->ewsn_push_parse_json($body));
    }

    /**
     * Begins the sign-in of a user by OAuth, with the options of the watch (user, oauth_tenant, oauth_client_id, …).
     *
     * With a browser that comes back to $redirect, the whole URL of a page as it is registered: url, where to send it, and kept. Without
     * one, on another device: uri, user_code, whole_uri, seconds, and kept. kept is a secret, for signInFinish() in this request or another:
     * keep it in $_SESSION.
     */
    public static function signInBegin(array $options, ?string $redirect = null): array
    {
        return self::decode(self::ffi()->ewsn_sign_in_begin_json(self::json($options), $redirect));
    }

    /**
     * Goes on with a sign-in, with the same options. $query is what the browser came back with: $_SERVER['QUERY_STRING'].
     *
     * Without one it waits so many milliseconds at most (negative: as long as the code is good) for the user on the other device, or
     * until a signal. The user has signed in: stored, lasting, expires_unix_ms, and where nothing is set to store them in refresh_token
     * and access_token. Not yet: kept, in the place of the one before, retry_ms, and trouble where the
     * issuer could not be asked.
     */
    public static function signInFinish(array $options, string $kept, ?string $query = null, int $milliseconds = -1): array
    {
        $time = self::time($milliseconds);
        return self::decode(self::ffi()->ewsn_sign_in_finish_json(self::json($options), $kept, $query, $time));
    }

    /** Begins to watch a mailbox; the number that its events carry. */
    public function watch(array $options = []): int
    {
        return self::ffi()->ewsn_watch_json($this->handle, self::json($options)) ?: self::fail();
    }

    public function unwatch(int $watch): void
    {
        self::check(self::ffi()->ewsn_unwatch($this->handle, $watch));
    }

    /** The next event; null where none came in time or a signal ended the wait, false once the client is closed. */
    public function next(int $milliseconds): array|null|false
    {
        $text = self::ffi()->ewsn_next_json($this->handle, self::time($milliseconds));
        if ($text !== null) {
            return json_decode($text, true, 512, JSON_THROW_ON_ERROR);
        }
        return self::check(self::ffi()->ewsn_last_status()) === self::CLOSED ? false : null;
    }

    /** The event has been dealt with (option ack=manual). Returns when that is durable. */
    public function ack(array $event): void
    {
        self::check(self::ffi()->ewsn_ack($this->handle, $event['seq']));
    }

    /** It could not be dealt with: it is told again after so long. */
    public function retry(array $event, int $milliseconds): void
    {
        self::check(self::ffi()->ewsn_nack($this->handle, $event['seq'], self::ffi()->EWSN_RETRY, $milliseconds));
    }

    /** It could not be dealt with: it is kept until it is released. */
    public function park(array $event): void
    {
        self::check(self::ffi()->ewsn_nack($this->handle, $event['seq'], self::ffi()->EWSN_PARK, 0));
    }

    /**
     * Gives a token for the watches with auth=host and this account, as the answer to TokenNeeded; $expires is when it ends, in seconds
     * since 1970, null where that is not known.
     */
    public function setToken(string $account, string $token, int|float|null $expires = null): void
    {
        $milliseconds = $expires === null ? 0 : (int) ($expires * 1000);
        self::check(self::ffi()->ewsn_set_token($this->handle, $account, $token, $milliseconds, null));
    }

    /** Says that there is no token before somebody signs in: the account's watches end. */
    public function denyToken(string $account, string $why): void
    {
        self::check(self::ffi()->ewsn_set_token($this->handle, $account, null, 0, $why));
    }

    /** The parked events: id, attempts, event. */
    public function parked(): array
    {
        return self::decode(self::ffi()->ewsn_parked_json($this->handle));
    }

    /** Gives a parked event again, by its id. */
    public function release(int $id): void
    {
        self::check(self::ffi()->ewsn_release($this->handle, $id));
    }

    public function getItem(int $watch, string $itemId, ?string $changeKey = null): array
    {
        return self::decode(self::ffi()->ewsn_get_item_json($this->handle, $watch, $itemId, $changeKey));
    }

    /** Asks for a whole message and writes it into a new file. */
    public function saveMime(int $watch, string $itemId, ?string $changeKey, string $path): void
    {
        self::check(self::ffi()->ewsn_save_mime($this->handle, $watch, $itemId, $changeKey, $path));
    }

    /**
     * Gives such a body to this client, whose watches have mode=push: http_status and reply to answer with, messages with what became
     * of each. The events come by next().
     */
    public function pushFeed(string $body): array
    {
        return self::decode(self::ffi()->ewsn_push_feed_json($this->handle, $body));
    }

    /** Asks for an attachment by its `id` in `attachments` and writes its content into a new file. */
    public function saveAttachment(int $watch, string $attachmentId, string $path): void
    {
        self::check(self::ffi()->ewsn_save_attachment($this->handle, $watch, $attachmentId, $path));
    }

    /** Writes every request and answer from now on to this file (mode 0600), without secrets; null ends it. */
    public function traceWire(?string $path): void
    {
        self::check(self::ffi()->ewsn_trace_wire($this->handle, $path));
    }

    /** What is going on: watches, connections, counters. */
    public function status(): array
    {
        return self::decode(self::ffi()->ewsn_status_json($this->handle));
    }

    /** Registers what dispatch() calls with an event; what it throws comes out of dispatch(). */
    public function onEvent(\Closure $callback): void
    {
        $this->callback = $callback;
    }

    /**
     * Waits for an event and calls what was registered for it and for those that are there already; how many there were, false
     * once the client is closed.
     */
    public function dispatch(int $milliseconds): int|false
    {
        // Not by ewsn_dispatch: an exception that a signal's handler throws as a callback of FFI ends is fatal.
        for ($count = 0; ; ++$count) {
            if ($this->callback === null) {
                throw new \LogicException('dispatch: nothing was registered with onEvent()');
            }
            $event = $this->next($count > 0 ? 0 : $milliseconds);
            if ($event === false) {
                return $count ?: false;
            }
            if ($event === null) {
                return $count;
            }
            ($this->callback)($event);
        }
    }

    /** Readable while next() would not wait: fopen("php://fd/N") for stream_select. */
    public function fd(): int
    {
        return self::check(self::ffi()->ewsn_fd($this->handle));
    }

    /** Ends one wait: for a signal handler, in case the signal came just before the wait began. */
    public function wake(): void
    {
        self::ffi()->ewsn_wake($this->handle);
    }

    /** Tells the server, as far as the time allows, and ends everything; negative for option close_timeout. */
    public function close(int $milliseconds = -1): void
    {
        self::check(self::ffi()->ewsn_close($this->handle, self::time($milliseconds)));
    }

    /** Without close(), as after an exception or exit, the event that came last is told again (ack=auto). */
    public function __destruct()
    {
        if ($this->handle !== null) {
            self::ffi()->ewsn_free($this->handle);
            $this->handle = null;
        }
    }

    private static function ffi(): \FFI
    {
        if (self::$ffi === null) {
            try {
                self::$ffi = \FFI::scope('ewsnotify');
            } catch (\FFI\Exception) {
                $header = getenv('EWSNOTIFY_HEADER') ?: self::header();
                $library = getenv('EWSNOTIFY_LIBRARY') ?: self::NAME;
                self::$ffi = \FFI::cdef(file_get_contents($header), $library);
            }
            self::check(self::$ffi->ewsn_abi_check(self::ABI));
        }
        return self::$ffi;
    }

    private static function header(): string
    {
        $beside = __DIR__ . '/ewsnotify_ffi.h';
        foreach ([$beside, __DIR__ . '/../../include/ewsnotify_ffi.h'] as $path) {
            if (is_file($path)) {
                return $path;
            }
        }
        throw new \RuntimeException("there is no $beside: copy it there from share/ewsnotify/php, where `make install` puts it, or name it in "
            . 'EWSNOTIFY_HEADER');
    }

    private static function json(array $options): string
    {
        if (($options['dispatch'] ?? 'host') !== 'host') {
            throw new \InvalidArgumentException("option dispatch: PHP can be called on its own thread only");
        }
        return json_encode((object) $options, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE);
    }

    /** As the library takes it: a larger one would come out as any other, also as a negative one. */
    private static function time(int $milliseconds): int
    {
        return max(-1, min($milliseconds, 0x7fffffff));
    }

    private static function decode(?string $text): array
    {
        return $text === null ? self::fail() : json_decode($text, true, 512, JSON_THROW_ON_ERROR);
    }

    private static function check(int $status): int
    {
        return $status < 0 ? self::fail() : $status;
    }

    private static function fail(): never
    {
        $ffi = self::ffi();
        throw new Failure($ffi->ewsn_last_status(), $ffi->ewsn_last_error(), $ffi->ewsn_last_error_code() ?: null);
    }
}
